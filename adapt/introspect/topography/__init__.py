"""Topographic maps: each unit of a layer has a place in a square, and units that respond alike lie near each other.

    points = sorted_grid(profiles)                      # layouts: (units, groups) to (units, 2); same seed, same map
    quality(points, profiles).moran                     # quality: how much such a map is worth
    images = Canvas(points).images(profiles)            # draw: all groups from one triangulation
    points = align_layers(points, profiles, below, profiles_below)      # align: turned onto another map
    TopographicMap("conv3", groups, points, profiles, after).save(path)   # maps: what adapt/report/maps.py draws
    loss = TopographicLoss(model, sites, strength=1.0)  # loss: a layer that is laid out while it trains
    cells = cells_of_model(loaded.header, "here")       # cells: where it came to lie, as the model's file says

Profiles are a number for each unit and group, such as a unit's mean activation over the examples of a group less that
over all groups (NAP). After Krug, Ratul, Olson & Stober 2023, "Visualizing Deep Neural Networks with Topographic
Activation Maps".
"""
