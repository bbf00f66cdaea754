"""Jobs: long work that a tenant asks for, which workers claim, renew and finish."""
