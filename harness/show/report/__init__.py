"""A report as one HTML file that needs no network: templates, style and scripts beside the modules that fill them."""
