-- The health of what tokenward makes, for Argo CD: one script for the kinds IntegrationCredential, OAuthProvider and
-- ClusterOAuthProvider of the group tokenward.dev. Put it into the ConfigMap argocd-cm, once for each of them:
--
--   data:
--     resource.customizations.health.tokenward.dev_IntegrationCredential: |
--       (this file)
--
-- Healthy: there is a valid token, also while it is being refreshed. Degraded: nothing goes on until somebody acts; the
-- message holds the command that repairs it. Suspended: by spec.suspend. Progressing: everything else.

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "being deleted")
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local ready = conditions.Ready
if ready == nil then
  return health("Progressing", "waiting for the operator of tokenward")
end

-- What is said of an older version of the object says nothing of this one.
local observed = ready.observedGeneration or obj.status.observedGeneration
if observed ~= nil and observed ~= obj.metadata.generation then
  return health("Progressing", "waiting for the operator of tokenward")
end

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

if is_true("Suspended") then
  return health("Suspended", conditions.Suspended.message)
end
if is_true("Stalled") then
  return health("Degraded", conditions.Stalled.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if ready.status == "False" and not is_true("Reconciling") then
  return health("Degraded", ready.message)
end
return health("Progressing", ready.message)
