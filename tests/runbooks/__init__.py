"""The runbooks, followed from the fault to recovery."""
