"""What two runs of a script have left behind, compared, with the probable cause of a difference."""
