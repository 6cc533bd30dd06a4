"""Spreadsheets as people have them, read as a whole before anything happens.

`files` opens a file as what it holds: `csv_file` and `workbook` give its rows. `header` finds the
fields in its columns, `cells` the values in its cells, and `reading` collects what is wrong, to be
told at once. `updates` compares the lines with the users that they mean, for `update_users`;
`newcomers` makes people of them, for `import_users`.
"""
