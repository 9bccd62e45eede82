"""What each page shows, as frozen values, and the functions that read them from the tables of their owners.

A value here holds numbers, names and times, never words of a language: templates say it in the reader's own.
`reader.Reader` is the one face that handlers know; `stored.Stored` answers it from a running platform.
"""
