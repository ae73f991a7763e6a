"""What the judges tell about an event that the CloudEvents SDK has read."""

import base64


def told(event):
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    data = event.get_data()
    if isinstance(data, bytes):
        data = {"base64": base64.b64encode(data).decode()}
    return {"attributes": attributes, "data": data}
