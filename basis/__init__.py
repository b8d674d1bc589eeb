"""What every package needs: errors that a user can mend, names that were meant, files read and written with care.

Imports nothing of the project and nothing heavy, so that commands which say no more than a list or a mistake are quick.
"""
