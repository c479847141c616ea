"""The commands of `hyperrag`, one file per family. Heavy imports happen inside the command."""
