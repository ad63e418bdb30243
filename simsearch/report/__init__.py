"""Reports and drawings: what a person looks at, as HTML, Markdown, JSON, CSV and pictures."""
