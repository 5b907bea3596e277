"""Read and write a model's inside: where (sites), which (neurons), how (capture, intervene), what (one idea a file).

    site = site_at(model, "model.encoder.layers.3")                 # sites: any module; find_sites lists the usual ones
    with capture(model, site) as acts:                              # capture: (batch, time, units), whatever the layout
        model(audio)

    steer = Steer(site, vector, 2.0, scope=Scope(steps=PROMPT))     # data: a frozen object, with when and how strongly
    ablate = Ablate(scores.top(0.05))                               # neurons: sets of units, by score or by hand
    with intervene(model, steer, ablate):                           # intervene: for a block, in the order given
        model.generate(audio)

    save("edits.safetensors", [steer, ablate], model)               # store: one file, this model's, without code in it
    edits = Edits(model)                                            # intervene: until removed
    for name, edit in load("edits.safetensors", model).items():
        edits.add(edit, name)

    fitter = MeanDifference()                                       # steer_fit, erase: fitted in one pass over a corpus
    with capture(model, site, fitter.for_group(0), lengths): model(audio)  # ... and fitter.for_group(1) of the other group
    steer = fitter.fit().steer(site, 2.0)
    unfold(fold(model, steer))                                      # fold: into the weights where affine, and out again

    correct(model, memory, 1, loss, right)                          # correct: what a user corrects stays so, until
    with intervene(model, memory): model(audio)                     # ... memory.remove(1); correct_store keeps it

    names = train_rows(model, scores.top(0.05))                     # rows: only these neurons train, until merge_rows
    freeze_all_but(model, names)                                    # freeze: and nothing else moves a bit

What never ran is an error, in the call that went past it; nothing of the model or of other people's hooks is touched.
Each name is imported from its own module (`from interventions.steer import Steer`), so that one loads what it uses.
"""
