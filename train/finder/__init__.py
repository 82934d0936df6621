"""Learning to find: fields with boxed cells in, a network that marks the centres of nucleated cells out.

``others_by_eye_bcisc.csv`` lists, for every image of bcisc's subjects 6 and 7, the nucleated cells in view
that its own table does not box: image, x and y of the middle in pixels, whole and cut ones alike; x and y are
empty where a person looked and saw no other. It was written by eye before any finder had looked, so that what
a finder marks out there can be called true or false. A note begins with "doubtful" where the eye was not
sure, with "cut" where the border cuts the cell.
"""
