"""Learning to find: fields with boxed cells in, a network that marks the centres of nucleated cells out.

``others_by_eye_NAME.csv`` lists the nucleated cells in view that collection NAME does not box: image, x and y
of the middle in pixels, whole and cut ones alike; x and y are empty where a person looked and saw no other.
Looked at were all images of chula and of the annotated Kaggle originals, all of bcisc's subjects 6 and 7 (of
those without a box every cell is listed), and those of its subjects 1 to 5 that have a box. It was done by
eye, without what any finder marks out, so that this can be called true or false. A note begins with
"doubtful" where the eye was not sure, and says where the border cuts a cell.
"""
