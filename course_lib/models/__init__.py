"""The networks of the course, each the end state of one lesson."""
