"""Topographic maps: each unit of a layer has a place in a square, near units with similar responses.

    points = sorted_grid(profiles)                      # layouts: (units, groups) to (units, 2); same seed, same map
    quality(points, profiles).moran                     # quality: how well the map preserves similarity
    images = Canvas(points).images(profiles)            # draw: all groups from one triangulation
    points = align_layers(points, profiles, below, profiles_below)      # align: rotate onto another map
    TopographicMap("conv3", groups, points, profiles, after).save(path)   # maps: what adapt/report/maps.py draws
    loss = TopographicLoss(model, sites, strength=1.0)  # loss: lay out a layer during training
    cells = cells_of_model(loaded.header, "here")       # cells: its learned grid, from the header of the model

Profiles have a value for each unit and group, such as the mean activation of a unit in a group minus its mean over all
groups (NAP). After Krug, Ratul, Olson & Stober 2023, "Visualizing Deep Neural Networks with Topographic
Activation Maps".
"""
