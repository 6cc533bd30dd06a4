"""Spreadsheets as people have them, read as a whole before anything happens.

`csv_file` and `workbook` give the rows of a file, whatever it is written in. `header` finds the
fields in its columns, `cells` the values in its cells. `updates` compares the lines with the users
that they mean, for `update_users`. What is wrong is collected as `Fault`s and told at once.
"""
