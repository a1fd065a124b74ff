"""HTML pages in one look: a Jinja2 layout and a stylesheet that every report shares."""
