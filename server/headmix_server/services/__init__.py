"""Work of the API process that is not HTTP: pinning, fetching and converting adapters."""
