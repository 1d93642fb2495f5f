"""The audit log: who did what, append-only, a chain per tenant.

An entry says who, what, to which object, when, from where and how it went: never a payload, a row, a name
that somebody gave, or the text of an error. What it may say is a closed list, checked by `entries.Deed`.

Editing, inserting, removing or reordering entries, taking a tenant's whole log away, and putting back an
older database or one tenant's older log, is found by `verifying`, because each entry is sealed and
chained (`chain`), the head of each chain is signed at most a second later, and so is one head over all
heads (`heads`), in the database and in files beside it.

Pitfalls, and what nobody can find: whoever has the signing key and the disk can write a new history; only a
head that somebody else has kept (a copy of its file, an export) shows it. Who may write the database but not
read the key can take away the entries of the last second before a crash, when no head covered them yet.
Whoever puts back the whole database together with the files of its heads shows a true, older log. Whoever
takes away every head, in the database and in files, makes the workbench sign anew the entries that are left:
what was cut off then is missed only where an organisation is left without a log. And the log knows what the
workbench was asked, not what somebody did with a copy of its files.
"""
