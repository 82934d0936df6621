"""``hematovision bench finder``: what a finder finds on boxed fields, what else, and at what cost."""
