"""What every package needs: the error that a user can mend, and files read and written with care.

Imports nothing of the project and nothing heavy, so that commands which say no more than a list or a mistake are quick.
"""
