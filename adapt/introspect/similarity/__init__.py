"""Compare the representations of two models or layers: CKA, SVCCA, PWCCA, Procrustes, RSA."""
