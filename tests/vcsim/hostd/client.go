package hostd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxRefusal bounds how much of a refusal's text is read, in bytes.
const maxRefusal = 1 << 10

// Client asks the control API for tickets, as vCenter asks its hosts.
type Client struct {
	// URL of the control API, without a path.
	URL string
}

// NewTicket is Hosts.NewTicket from another process.
func (c Client) NewTicket(host string, request TicketRequest) (Ticket, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Ticket{}, err
	}
	target := c.URL + "/hosts/" + url.PathEscape(host) + "/tickets"
	response, err := http.Post(target, "application/json", bytes.NewReader(body))
	if err != nil {
		return Ticket{}, err
	}
	defer response.Body.Close()

	switch response.StatusCode {
	case http.StatusOK:
		var ticket Ticket
		err := json.NewDecoder(response.Body).Decode(&ticket)
		return ticket, err
	case http.StatusConflict:
		var limit LimitReached
		if err := json.NewDecoder(response.Body).Decode(&limit); err != nil {
			return Ticket{}, err
		}
		return Ticket{}, limit
	case http.StatusNotFound:
		return Ticket{}, ErrUnknownHost
	default:
		reason, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal)) // What there is will do.
		return Ticket{}, fmt.Errorf("host %s: %s: %s", host, response.Status, reason)
	}
}
