"""What the Grafana dashboards show: a file for each. scripts/render_dashboards.py writes them out."""

import warnings

# The classic model is what file provisioning reads in every Grafana; its successor, only in the newest.
warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
