from callstats.kernels.json_reduce_py import fit_rows as fit_rows
from callstats.kernels.json_reduce_py import reduce_blobs as reduce_blobs
from callstats.kernels.json_reduce_py import reduce_packed as reduce_packed
