"""Numbers -> tables, plots and the HTML page, whose sections are laid out in `templates/`."""
