"""Action chunks although inference takes time: what the arm does meanwhile, how long that is, and how chunks join.

Control step 0 of a chunk belongs to the observation's stamp. When the chunk arrives, `d` steps have passed: their rows
are skipped by time, never replayed. Methods differ in how a new chunk is made to continue what the arm does meanwhile;
each is a module here, or a class that another package registers under the entry point `physai.chunking`:

    synchronous   the arm stops and waits for each chunk
    naive         nothing is done about it
    ensemble      the mean of all chunks that cover a moment (ACT, Zhao et al., arXiv 2304.13705)
    real_time     the policy is told what the arm does meanwhile and goes on from there; how is the bundle's matter:
                    trained          the network was trained with the first d rows given (Black et al., arXiv 2512.05964)
                    guided           inpainting by guidance with the vector-Jacobian product of the denoised chunk
                                     (Black et al., arXiv 2506.07339, algorithm 1)
                    guided_identity  the same with the Jacobian taken as the identity: cheaper, another algorithm
    corrected     real_time, and a small network corrects the running chunk with every observation
                  (A2C2, arXiv 2509.23224)
"""
