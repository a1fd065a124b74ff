"""Each metric on true and on corrupted films: does it see the fault?"""
