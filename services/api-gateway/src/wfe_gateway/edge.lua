-- First filter of the REST listener: last to see an answer, first to see a request.

local function media_type(value)
  return string.lower(string.match(value, "^%s*([^;%s]*)") or "")
end

local FORM = "application/x-www-form-urlencoded"

-- A link is one address to programs and to people. What a browser opens, and the form on that page, are calls of their
-- own behind it. Returns whether this is such a form.
local function page_of_link(headers, media)
  local path = headers:get(":path")
  local link, page = string.match(path, "^(/api/v1/links/[%w_-]+)(/?[a-z]*)$")
  if link == nil or (page ~= "" and page ~= "/page") then
    return false
  end
  local method = headers:get(":method")
  local form = method == "POST" and media == FORM
  local reads = method == "GET" and string.find(string.lower(headers:get("accept") or ""), "text/html", 1, true)
  if (form or reads) and page == "" then
    headers:replace(":path", link .. "/page")
  end
  return form
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type")
  local media = content_type and media_type(content_type)
  local form = page_of_link(headers, media)
  if content_type == nil then
    return
  end
  if string.sub(media, 1, 16) == "application/grpc" then
    handle:respond({[":status"] = "415"}, "this port speaks REST; gRPC has a port of its own")
    return
  end
  local method = headers:get(":method")
  if method == "GET" or method == "HEAD" or method == "DELETE" or headers:get("content-length") == "0" then
    return
  end
  if media ~= "application/json" and not form then
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
    local whole = content_type == "application/json" or media_type(content_type) == "text/html"
    if whole and string.match(status, "^[245]%d%d$")
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
