/* A wall clock that a file sets, for one process and its children, by LD_PRELOAD.
 *
 * WALL_CLOCK_FILE names a file of eight bytes: by how many nanoseconds the wall clock of the process
 * is ahead. It is mapped, so that a step is there the moment the file is written. Every other clock,
 * and every wait, is left as it is: a wait until a moment of the wall clock is given to the kernel
 * on the kernel's own clock. Without the file nothing changes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANOS 1000000000LL
/* A deadline beyond this is one of the wall clock: no machine is up for thirty years. */
#define WALL_FROM_S 1000000000LL

static const volatile int64_t nothing = 0;
static const volatile int64_t *ahead = &nothing;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("WALL_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *place = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED)
        ahead = place;
}

static struct timespec moved(struct timespec moment, int64_t by) {
    int64_t nanos = moment.tv_nsec + by % NANOS;
    moment.tv_sec += by / NANOS + (nanos >= NANOS) - (nanos < 0);
    moment.tv_nsec = nanos + (nanos < 0) * NANOS - (nanos >= NANOS) * NANOS;
    return moment;
}

/* A deadline as the kernel must be told it. */
static struct timespec real(const struct timespec *deadline) {
    return deadline->tv_sec < WALL_FROM_S ? *deadline : moved(*deadline, -*ahead);
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = next(clock, now);
    if (status == 0 && is_wall(clock))
        *now = moved(*now, *ahead);
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec moment;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &moment);
    now->tv_sec = moment.tv_sec;
    now->tv_usec = moment.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (place)
        *place = moment.tv_sec;
    return moment.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next)
        next = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
            RTLD_NEXT, "pthread_cond_timedwait",
#if defined __aarch64__
            "GLIBC_2.17");
#else
            "GLIBC_2.3.2");
#endif
    struct timespec told = real(deadline);
    return next(cond, mutex, &told);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict deadline) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next)
        next = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec told = real(deadline);
    return next(semaphore, &told);
}

long syscall(long number, ...) {
    static long (*next)(long, ...);
    long a[6];
    va_list more;
    if (!next)
        next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(more, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    struct timespec told;
    if (number == SYS_futex && a[3] && (a[1] & FUTEX_CLOCK_REALTIME)) {
        told = real((const struct timespec *)a[3]);
        a[3] = (long)&told;
    } else if (number == SYS_clock_gettime) {
        return clock_gettime((clockid_t)a[0], (struct timespec *)a[1]);
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
