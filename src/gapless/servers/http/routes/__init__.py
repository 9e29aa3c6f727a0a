"""The documented routes, a file a subject; each makes its handlers of what it is handed."""
