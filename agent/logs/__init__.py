"""The output of attempts: spooled to local files, uploaded in chunks, read live."""
