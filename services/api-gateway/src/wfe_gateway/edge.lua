-- First filter of the REST listener: last to see an answer, first to see a request.

local function media_type(value)
  return string.lower(string.match(value, "^%s*([^;%s]*)") or "")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type")
  if content_type == nil then
    return
  end
  local media = media_type(content_type)
  if string.sub(media, 1, 16) == "application/grpc" then
    handle:respond({[":status"] = "415"}, "this port speaks REST; gRPC has a port of its own")
    return
  end
  local method = headers:get(":method")
  if method == "GET" or method == "HEAD" or method == "DELETE" or headers:get("content-length") == "0" then
    return
  end
  if media ~= "application/json" then
    handle:respond({[":status"] = "415"}, "the content type must be application/json")
    return
  end
  local encoding = headers:get("content-encoding")
  if encoding ~= nil and encoding ~= "identity" then
    handle:respond({[":status"] = "415"}, "the body must not be compressed")
  end
end

-- A service names the HTTP status of its answer in x-http-status: 201 for what was made, 409 for what the state of
-- a run does not allow. gRPC has no code for either. The content type tells a transcoded answer from a stream.
function envoy_on_response(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type") or ""
  if string.sub(content_type, 1, 16) == "application/grpc" then
    return -- what a gRPC caller is told who came to the wrong port
  end
  local status = headers:get("x-http-status")
  if status ~= nil then
    headers:remove("x-http-status")
    if content_type == "application/json" and string.match(status, "^[245]%d%d$")
        and status ~= "204" and status ~= "205" then
      headers:replace(":status", status)
    end
  end
  -- What gRPC left behind says nothing to a REST client.
  headers:remove("grpc-accept-encoding")
  headers:remove("grpc-encoding")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
  headers:remove("grpc-status-details-bin")
end
