"""The commands of ``fedshard``, one file each: arguments in, exit status out."""
