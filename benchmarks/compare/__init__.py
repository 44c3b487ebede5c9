"""Compare keepfit with the methods that users would choose instead, on the deciding questions."""
