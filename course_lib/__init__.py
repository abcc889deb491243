"""Helper package of the image segmentation course.

It holds what a lesson has already built by hand, plus what would distract from it: finding data,
seeding, plotting, and the `course` command. Importing it opens no file and no connection.
"""
