"""Reports as one HTML page that needs nothing else: the template of all commands, and the page of scored images."""
