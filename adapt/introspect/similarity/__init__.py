"""Compare the representations of layers, of one model or of two: CKA, SVCCA, PWCCA, Procrustes, RSA."""
