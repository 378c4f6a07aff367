"""What `doctor` checks, one module for each side. Checks read, or write only under keys and names of their own."""
