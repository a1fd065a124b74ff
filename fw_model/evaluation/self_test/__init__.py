"""Each metric on true and on corrupted films: does it detect the fault?"""
