"""The `mainspring` command line: flags in, calls of the SDK, text out.

Promises: data goes to standard output and messages to standard error; a foreseeable failure is one
message with the next step, never a traceback; `exit_codes` says how a command ended. Nothing heavy
is imported before a command that needs it runs.
"""
