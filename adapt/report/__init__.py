"""HTML pages, figures and tables that show results."""
