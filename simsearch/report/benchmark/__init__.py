"""The report of a benchmark: HTML, Markdown, JSON, plots and the table in the terminal."""
