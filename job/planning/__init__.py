"""What an interval between saves is worth, on machines that live as long as recorded ones did."""
