"""The CKA analyser against pytorch-cka and the released procedure."""
