"""Checks of quotas, subnets and capacity, against answers of AWS on loopback and against moto."""
