"""The commands besides `keepfit run`: stores, plans, deployments and jobs on AWS."""
