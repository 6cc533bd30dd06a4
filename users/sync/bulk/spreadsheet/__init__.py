"""Read spreadsheets in the forms that people have, completely, before anything is changed.

`files` opens a file by its content: `csv_file` and `workbook` read its rows. `header` finds the
fields in its columns, and `cells` the values in its cells. `reading` collects everything that is
wrong, to report it at once. `keys` finds the users of the lines. `updates` compares lines with
their users, for `update_users`; `newcomers` makes users of lines, for `import_users`; `people`
selects users, for `clerk_action`.
"""
