"""One function a fault: a plan and a dose in, the plan with the fault out."""
