"""The command `kexue-keras`, a file a command."""
