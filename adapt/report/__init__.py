"""Before against after, drawn: the page, its pictures, and the table on the terminal."""
