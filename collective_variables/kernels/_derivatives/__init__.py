"""Derivatives of a network layer by layer, contracted into the neural tangent kernel or its trace.

A parameter W that enters y = Σ_t a_t W has the derivative Σ_t a_t ⊗ g_t, where back-propagation
brings the signal g to y. Examples are a dense layer, a convolution written as patches times a
matrix, attention and an embedding.

The contribution of W to the kernel follows from a and g, without the Jacobian of all parameters
(Novak et al. 2022, "structured derivatives"). Every other parameter uses its Jacobian; that of the
bias of a dense layer is g.
"""
