"""What must hold: the document as data, the layer types and the formulas."""
