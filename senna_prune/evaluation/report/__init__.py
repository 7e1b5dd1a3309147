"""Numbers -> tables, plots and the HTML page."""
