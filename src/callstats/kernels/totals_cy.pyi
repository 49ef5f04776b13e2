from callstats.kernels.totals_py import blob_totals as blob_totals
from callstats.kernels.totals_py import moments as moments
from callstats.kernels.totals_py import ranks as ranks
from callstats.kernels.totals_py import totals as totals
